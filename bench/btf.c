// The same look-ups as btf.ts, with libbpf: btf-peer FILE, of lines "KIND NAME" (the kernel's number of the kind). Prints
// milliseconds: for opening the kernel's types and finding the first, for finding the others, for finding them once more.
#include "peer.h"
#include <bpf/btf.h>

enum { MOST = 4096 };

static unsigned kinds[MOST];
static char names[MOST][256];

static double find(const struct btf *btf, int from, int to) {
  double started = now() / 1e6;
  for (int i = from; i < to; i++)
    if (btf__find_by_name_kind(btf, names[i], kinds[i]) <= 0) fprintf(stderr, "no %s\n", names[i]);
  return now() / 1e6 - started;
}

int main(int argc, char **argv) {
  FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
  int count = 0;
  if (!file) return 2;
  while (count < MOST && fscanf(file, "%u %255s", &kinds[count], names[count]) == 2) count++;
  double started = now() / 1e6;
  struct btf *btf = btf__load_vmlinux_btf();
  if (!btf) return 1;
  find(btf, 0, 1);
  double first = now() / 1e6 - started;
  double others = find(btf, 1, count);
  double again = find(btf, 1, count);
  printf("%f %f %f\n", first, others, again);
  return 0;
}
