// The operations of batches.ts with libbpf: batches-peer MAP_ID OPERATION ENTRIES VALUES. VALUES is the number of values per
// key. Prints nanoseconds per entry: the median of the samples.
#include "peer.h"

enum { SAMPLES = 9, BATCH = 16384 };

static unsigned long long sum;
// The number of u64 values per key: one per CPU in a per-CPU map.
static int values_per_key;
static unsigned *keys;
static unsigned long long *values;

static unsigned walk_batches(int fd) {
  unsigned in, out, total = 0;
  void *from = NULL;
  int failed;
  do {
    unsigned count = BATCH;
    failed = bpf_map_lookup_batch(fd, from, &out, keys, values, &count, NULL);
    for (unsigned i = 0; i < count; i++) sum += keys[i] + values[i * values_per_key];
    total += count;
    in = out;
    from = &in;
  } while (!failed);
  return total;
}

static unsigned walk_keys(int fd) {
  unsigned key, next, total = 0;
  int ended = bpf_map_get_next_key(fd, NULL, &next);
  while (!ended) {
    key = next;
    if (!bpf_map_lookup_elem(fd, &key, values)) {
      sum += key + values[0];
      total++;
    }
    ended = bpf_map_get_next_key(fd, &key, &next);
  }
  return total;
}

static void fill(unsigned entries) {
  for (unsigned i = 0; i < entries; i++) {
    keys[i] = i;
    for (int c = 0; c < values_per_key; c++) values[i * values_per_key + c] = i;
  }
}

static unsigned set_batch(int fd, unsigned entries) {
  unsigned count = entries;
  return bpf_map_update_batch(fd, keys, values, &count, NULL) ? 0 : count;
}

static unsigned set_each(int fd, unsigned entries) {
  for (unsigned i = 0; i < entries; i++)
    if (bpf_map_update_elem(fd, &keys[i], &values[i * values_per_key], BPF_ANY)) return 0;
  return entries;
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  int fd = bpf_map_get_fd_by_id(atoi(argv[1]));
  if (fd < 0) return 1;
  unsigned entries = atoi(argv[3]);
  values_per_key = atoi(argv[4]);
  unsigned room = entries > BATCH ? entries : BATCH;
  keys = malloc(room * sizeof *keys);
  values = malloc((size_t)room * values_per_key * sizeof *values);
  if (!keys || !values) return 1;
  double samples[SAMPLES];
  for (int sample = 0; sample < SAMPLES; sample++) {
    fill(entries);
    double start = now();
    unsigned done = !strcmp(argv[2], "walk")    ? walk_batches(fd)
                    : !strcmp(argv[2], "keys")  ? walk_keys(fd)
                    : !strcmp(argv[2], "store") ? set_batch(fd, entries)
                                                : set_each(fd, entries);
    samples[sample] = (now() - start) / entries;
    if (done != entries) return 1;
  }
  printf("%.1f\n", median(samples, SAMPLES));
  return sum == 1;
}
