// The loops of maps.ts with libbpf: maps-peer MAP_ID OPERATION. Prints nanoseconds per operation: the median
// of the samples.
#include "peer.h"

enum { SAMPLES = 41, PER_SAMPLE = 2048, KEYS = 512 };

static unsigned long long sum;

static int run(int fd, const char *operation, unsigned key) {
  unsigned long long value;
  if (!strcmp(operation, "get")) {
    int failed = bpf_map_lookup_elem(fd, &key, &value);
    sum += value;
    return failed;
  }
  if (!strcmp(operation, "miss")) {
    key += KEYS;
    return !bpf_map_lookup_elem(fd, &key, &value);
  }
  if (!strcmp(operation, "set")) {
    value = key;
    return bpf_map_update_elem(fd, &key, &value, BPF_ANY);
  }
  if (!strcmp(operation, "add")) {
    key += KEYS;
    value = key;
    return bpf_map_update_elem(fd, &key, &value, BPF_NOEXIST);
  }
  if (!strcmp(operation, "delete")) {
    key += KEYS;
    return bpf_map_delete_elem(fd, &key);
  }
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  int fd = bpf_map_get_fd_by_id(atoi(argv[1]));
  if (fd < 0) return 1;
  const char *operation = argv[2];
  int adds = !strcmp(operation, "add"), deletes = !strcmp(operation, "delete");
  // Each key can be added or deleted only once per sample. Other operations reuse the keys.
  unsigned keys = adds || deletes ? PER_SAMPLE : KEYS;
  double samples[SAMPLES];
  for (int sample = 0; sample < SAMPLES; sample++) {
    if (deletes)
      for (unsigned i = 0; i < PER_SAMPLE; i++)
        if (run(fd, "add", i)) return 1;
    double start = now();
    for (unsigned i = 0; i < PER_SAMPLE; i++)
      if (run(fd, operation, i % keys)) return 1;
    samples[sample] = (now() - start) / PER_SAMPLE;
    if (adds)
      for (unsigned i = 0; i < PER_SAMPLE; i++)
        if (run(fd, "delete", i)) return 1;
  }
  printf("%.1f\n", median(samples, SAMPLES));
  return sum == 1;
}
