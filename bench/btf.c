// The look-ups of btf.ts with libbpf: btf-peer FILE, with lines "KIND NAME" (KIND is a BTF_KIND_* number). Prints
// three times in milliseconds: to open the kernel's BTF and find the first type, to find the others, and to find the others
// again.
#include "peer.h"
#include <bpf/btf.h>

enum { MAX_TYPES = 4096 };

static unsigned kinds[MAX_TYPES];
static char names[MAX_TYPES][256];

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
  while (count < MAX_TYPES && fscanf(file, "%u %255s", &kinds[count], names[count]) == 2) count++;
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
