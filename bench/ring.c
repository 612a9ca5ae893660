// The consumers of ring_*.ts, with libbpf:
//   ring-peer drain RING_ID PROGRAM_ID COUNT       for each number N on stdin, fills and drains N times: median ns per record
//   ring-peer consume CPU RING_ID...               until SIGTERM: number of events and of gaps in their sequence
//   ring-peer latency CPU RING_ID WARM_UP EVENTS   microseconds from the time in a record to the callback
#define _GNU_SOURCE
#include "peer.h"
#include <bpf/libbpf.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>

enum { MAX_SAMPLES = 1 << 20, PACKET = 14 };

static double samples[MAX_SAMPLES];
static unsigned long long events, next_sequence, gaps, sum;
static int wanted, warm_up;
static sigjmp_buf stopped;

struct event {
  unsigned long long sequence, time;
};

static int on_any(void *context, void *data, size_t size) {
  sum += size;
  return 0;
}

static int on_sequence(void *context, void *data, size_t size) {
  struct event *event = data;
  gaps += event->sequence != next_sequence;
  next_sequence = event->sequence + 1;
  events++;
  return 0;
}

static int on_time(void *context, void *data, size_t size) {
  struct event *event = data;
  double late = now() - event->time;
  if (warm_up > 0)
    warm_up--;
  else if (events < wanted)
    samples[events++] = late;
  return 0;
}

static void on_stop(int signal) { siglongjmp(stopped, 1); }

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set)) exit(3);
}

static struct ring_buffer *open_ring(const char *id, ring_buffer_sample_fn callback) {
  int fd = bpf_map_get_fd_by_id(atoi(id));
  struct ring_buffer *ring = fd < 0 ? NULL : ring_buffer__new(fd, callback, NULL, NULL);
  if (!ring) exit(4);
  return ring;
}

static void ready(void) {
  puts("ready");
  fflush(stdout);
}

static int drain(const char *ring_id, const char *program_id, int count) {
  struct ring_buffer *ring = open_ring(ring_id, on_any);
  int program = bpf_prog_get_fd_by_id(atoi(program_id));
  if (program < 0) return 4;
  char packet[PACKET] = {0};
  int rounds;
  ready();
  while (scanf("%d", &rounds) == 1) {
    for (int i = 0; i < rounds; i++) {
      LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof packet,
                  .repeat = count);
      if (bpf_prog_test_run_opts(program, &options)) return 5;
      double start = now();
      if (ring_buffer__consume(ring) != count) return 6;
      samples[i] = (now() - start) / count;
    }
    printf("%.3f\n", median(samples, rounds));
    fflush(stdout);
  }
  return sum == 1;
}

static int consume(char **ring_ids, int count) {
  struct ring_buffer *ring = open_ring(ring_ids[0], on_sequence);
  for (int i = 1; i < count; i++) {
    int fd = bpf_map_get_fd_by_id(atoi(ring_ids[i]));
    if (fd < 0 || ring_buffer__add(ring, fd, on_sequence, NULL)) return 4;
  }
  signal(SIGTERM, on_stop);
  if (!sigsetjmp(stopped, 1)) {
    ready();
    for (;;) ring_buffer__poll(ring, -1);
  }
  printf("{\"events\":%llu,\"gaps\":%llu}\n", events, gaps);
  return 0;
}

static int latency(const char *ring_id, int count) {
  struct ring_buffer *ring = open_ring(ring_id, on_time);
  wanted = count;
  ready();
  while (events < wanted) ring_buffer__poll(ring, -1);
  double middle = median(samples, count);
  printf("{\"p50\":%.2f,\"p99\":%.2f}\n", middle / 1e3, samples[count * 99 / 100] / 1e3);
  return 0;
}

int main(int argc, char **argv) {
  // Ends this process when the benchmark ends for any reason.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (argc == 5 && !strcmp(argv[1], "drain")) return drain(argv[2], argv[3], atoi(argv[4]));
  if (argc < 4) return 2;
  pin(atoi(argv[2]));
  if (!strcmp(argv[1], "consume")) return consume(argv + 3, argc - 3);
  if (argc != 6 || strcmp(argv[1], "latency") || atoi(argv[5]) > MAX_SAMPLES) return 2;
  warm_up = atoi(argv[4]);
  return latency(argv[3], atoi(argv[5]));
}
