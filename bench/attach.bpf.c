// The programs that attach.c attaches. They do nothing.
#define SECTION(name) __attribute__((section(name), used))

SECTION("license") char license_text[] = "GPL";

SECTION("tp") int tracepoint_program(void *context) { return 0; }
SECTION("perf_event") int perf_event_program(void *context) { return 0; }
SECTION("xdp") int xdp_program(void *context) { return 2; }
SECTION("tc") int tcx_program(void *context) { return -1; }
SECTION("cgroup_skb/egress") int cgroup_program(void *context) { return 1; }
