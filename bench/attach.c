// Attaches and detaches with libbpf, as attach.ts does: attach-peer OBJECT WAY COUNT CGROUP. Prints nanoseconds per attaching and
// detaching: the median.
#include "peer.h"
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LOOPBACK = 1, TCX_INGRESS = 46 };

static int cgroup;

static int open_clock(void) {
  struct perf_event_attr attr = {
      .type = PERF_TYPE_SOFTWARE,
      .size = sizeof attr,
      .config = PERF_COUNT_SW_CPU_CLOCK,
      .sample_period = 1000000000,
  };
  return syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
}

static struct bpf_link *attach(struct bpf_program *program, const char *way) {
  if (!strcmp(way, "tracepoint")) return bpf_program__attach_tracepoint(program, "sched", "sched_process_exec");
  if (!strcmp(way, "perf_event")) return bpf_program__attach_perf_event(program, open_clock());
  if (!strcmp(way, "xdp")) return bpf_program__attach_xdp(program, LOOPBACK);
  if (!strcmp(way, "cgroup")) return bpf_program__attach_cgroup(program, cgroup);
  errno = EINVAL;
  return NULL;
}

static int attach_and_detach(struct bpf_program *program, const char *way) {
  if (!strcmp(way, "tcx")) {
    // libbpf 1.1 has no function for tcx.
    int link = bpf_link_create(bpf_program__fd(program), LOOPBACK, TCX_INGRESS, NULL);
    return link < 0 ? -1 : close(link);
  }
  struct bpf_link *link = attach(program, way);
  return link ? bpf_link__destroy(link) : -1;
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  const char *way = argv[2];
  int count = atoi(argv[3]);
  cgroup = open(argv[4], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct bpf_object *object = bpf_object__open_file(argv[1], NULL);
  char name[64];
  snprintf(name, sizeof name, "%s_program", way);
  struct bpf_program *program = object ? bpf_object__find_program_by_name(object, name) : NULL;
  double *samples = calloc(count, sizeof *samples);
  if (!program || !samples) return 1;
  // Loads the other programs of the object, too: this is not timed.
  if (bpf_object__load(object)) return 1;
  for (int i = 0; i < count; i++) {
    double start = now();
    if (attach_and_detach(program, way)) {
      perror(way);
      return 1;
    }
    samples[i] = now() - start;
  }
  printf("%.0f\n", median(samples, count));
  return 0;
}
