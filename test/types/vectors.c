// Prints the C compiler's layout of the structs in vectors.ts. generate_vectors.ts runs it and converts the
// output to vectors.json. Each line is `struct <name> <sizeof> <alignof>`, `field <path> <offsetof>` or
// `sample <bytes in hexadecimal>`.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint64_t be64(uint64_t x) {
  return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap64(x) : x;
}

static void print_bytes(const void *p, size_t n) {
  printf("sample ");
  for (size_t i = 0; i < n; i++) printf("%02x", ((const unsigned char *)p)[i]);
  printf("\n");
}

#define STRUCT(S) printf("struct %s %zu %zu\n", #S, sizeof(struct S), _Alignof(struct S))
#define FIELD(S, F) printf("field %s %zu\n", #F, offsetof(struct S, F))
// Padding is zero because members are set one by one in zeroed memory.
#define SAMPLE(S, ...)           \
  do {                           \
    struct S s;                  \
    memset(&s, 0, sizeof s);     \
    __VA_ARGS__;                 \
    print_bytes(&s, sizeof s);   \
  } while (0)

struct unsigned_widths { uint8_t a; uint16_t b; uint8_t c; uint32_t d; uint8_t e; uint64_t f; uint8_t g; };
struct signed_widths { int64_t a; int8_t b; int32_t c; int8_t d; int16_t e; };
struct number_widths { uint8_t a; uint64_t b; int64_t c; uint16_t d; };
struct tail_padding { uint64_t a; uint8_t b; };
struct no_padding { uint32_t a; uint16_t b; uint8_t c; uint8_t d; };
struct single_byte { uint8_t a; };
struct bools { bool a; uint32_t b; bool c; bool d; };
struct char_arrays { char comm[16]; uint8_t a; char odd[5]; uint16_t b; };
struct raw_bytes { uint8_t a; uint8_t digest[3]; uint32_t b; uint8_t tail[17]; };
struct inner { uint8_t kind; uint32_t id; };
struct nested { uint8_t a; struct inner first; uint16_t b; struct inner second; };
struct wide_inner { uint32_t a; uint64_t b; };
struct nested_wide { uint32_t a; struct wide_inner inner; uint8_t b; };
struct scalar_arrays { uint8_t a; uint16_t small[3]; uint64_t wide[2]; uint32_t many[40]; };
struct struct_arrays { uint8_t a; struct inner items[3]; uint8_t b; };
struct matrix { uint8_t a; uint16_t rows[2][3]; };
struct __attribute__((packed)) packed_mixed { uint8_t a; uint64_t b; uint16_t c; uint32_t d; uint8_t e; };
struct holds_packed { uint8_t a; struct packed_mixed inner; uint32_t b; };
struct __attribute__((packed)) packed_outside { uint8_t a; struct inner inner; uint16_t b; };
struct network_order { uint8_t a; uint16_t port; uint32_t address; uint64_t id; };
struct connection {
  struct in6_addr from6; uint8_t proto; struct in_addr from; uint16_t port; uint8_t mac[6];
};
struct lpm4 { uint32_t prefixlen; struct in_addr address; };
struct lpm6 { uint32_t prefixlen; struct in6_addr address; };
struct deep { uint8_t a; struct nested_wide levels[2]; bool b; };

int main(void) {
  STRUCT(unsigned_widths);
  FIELD(unsigned_widths, a); FIELD(unsigned_widths, b); FIELD(unsigned_widths, c); FIELD(unsigned_widths, d);
  FIELD(unsigned_widths, e); FIELD(unsigned_widths, f); FIELD(unsigned_widths, g);
  SAMPLE(unsigned_widths, s.a = 1; s.b = 0x0203; s.c = 4; s.d = 0x05060708; s.e = 9;
         s.f = 0x0a0b0c0d0e0f1011ull; s.g = 0x12);
  SAMPLE(unsigned_widths, s.a = UINT8_MAX; s.b = UINT16_MAX; s.c = UINT8_MAX; s.d = UINT32_MAX;
         s.e = UINT8_MAX; s.f = UINT64_MAX; s.g = UINT8_MAX);

  STRUCT(signed_widths);
  FIELD(signed_widths, a); FIELD(signed_widths, b); FIELD(signed_widths, c); FIELD(signed_widths, d);
  FIELD(signed_widths, e);
  SAMPLE(signed_widths, s.a = -2; s.b = -3; s.c = -4; s.d = -5; s.e = -6);
  SAMPLE(signed_widths, s.a = INT64_MIN; s.b = INT8_MIN; s.c = INT32_MIN; s.d = INT8_MAX; s.e = INT16_MIN);

  STRUCT(number_widths);
  FIELD(number_widths, a); FIELD(number_widths, b); FIELD(number_widths, c); FIELD(number_widths, d);
  SAMPLE(number_widths, s.a = 1; s.b = 9007199254740991ull; s.c = -9007199254740991ll; s.d = 2);
  SAMPLE(number_widths, s.a = 0; s.b = 4294967296ull; s.c = -1; s.d = 0);
  SAMPLE(number_widths, s.a = 0; s.b = 4294967295ull; s.c = -4294967297ll; s.d = 65535);

  STRUCT(tail_padding);
  FIELD(tail_padding, a); FIELD(tail_padding, b);
  SAMPLE(tail_padding, s.a = 0x1122334455667788ull; s.b = 0x99);

  STRUCT(no_padding);
  FIELD(no_padding, a); FIELD(no_padding, b); FIELD(no_padding, c); FIELD(no_padding, d);
  SAMPLE(no_padding, s.a = 1; s.b = 2; s.c = 3; s.d = 4);

  STRUCT(single_byte);
  FIELD(single_byte, a);
  SAMPLE(single_byte, s.a = 200);

  STRUCT(bools);
  FIELD(bools, a); FIELD(bools, b); FIELD(bools, c); FIELD(bools, d);
  SAMPLE(bools, s.a = true; s.b = 7; s.c = false; s.d = true);

  STRUCT(char_arrays);
  FIELD(char_arrays, comm); FIELD(char_arrays, a); FIELD(char_arrays, odd); FIELD(char_arrays, b);
  SAMPLE(char_arrays, strcpy(s.comm, "systemd-journal"); s.a = 1; strcpy(s.odd, "abc"); s.b = 2);
  SAMPLE(char_arrays, strcpy(s.comm, "h\xc3\xa9llo \xf0\x9f\x90\x9d"); s.a = 255; strcpy(s.odd, ""); s.b = 3);

  STRUCT(raw_bytes);
  FIELD(raw_bytes, a); FIELD(raw_bytes, digest); FIELD(raw_bytes, b); FIELD(raw_bytes, tail);
  SAMPLE(raw_bytes, s.a = 1; memcpy(s.digest, "\x02\x00\xff", 3); s.b = 4;
         for (int i = 0; i < 17; i++) s.tail[i] = (uint8_t)(i * 15));

  STRUCT(nested);
  FIELD(nested, a); FIELD(nested, first); FIELD(nested, first.kind); FIELD(nested, first.id); FIELD(nested, b);
  FIELD(nested, second); FIELD(nested, second.kind); FIELD(nested, second.id);
  SAMPLE(nested, s.a = 1; s.first.kind = 2; s.first.id = 3; s.b = 4; s.second.kind = 5; s.second.id = 6);

  STRUCT(nested_wide);
  FIELD(nested_wide, a); FIELD(nested_wide, inner); FIELD(nested_wide, inner.a); FIELD(nested_wide, inner.b);
  FIELD(nested_wide, b);
  SAMPLE(nested_wide, s.a = 1; s.inner.a = 2; s.inner.b = 3; s.b = 4);

  STRUCT(scalar_arrays);
  FIELD(scalar_arrays, a); FIELD(scalar_arrays, small); FIELD(scalar_arrays, wide); FIELD(scalar_arrays, many);
  SAMPLE(scalar_arrays, s.a = 9; for (int i = 0; i < 3; i++) s.small[i] = (uint16_t)(i + 1);
         s.wide[0] = 10; s.wide[1] = 11; for (int i = 0; i < 40; i++) s.many[i] = (uint32_t)(i * 1000003));

  STRUCT(struct_arrays);
  FIELD(struct_arrays, a); FIELD(struct_arrays, items); FIELD(struct_arrays, b);
  SAMPLE(struct_arrays, s.a = 1; s.b = 2;
         for (int i = 0; i < 3; i++) { s.items[i].kind = (uint8_t)(i + 3); s.items[i].id = 100u + (uint32_t)i; });

  STRUCT(matrix);
  FIELD(matrix, a); FIELD(matrix, rows);
  SAMPLE(matrix, s.a = 1;
         for (int i = 0; i < 2; i++) for (int j = 0; j < 3; j++) s.rows[i][j] = (uint16_t)(i * 10 + j));

  STRUCT(packed_mixed);
  FIELD(packed_mixed, a); FIELD(packed_mixed, b); FIELD(packed_mixed, c); FIELD(packed_mixed, d);
  FIELD(packed_mixed, e);
  SAMPLE(packed_mixed, s.a = 1; s.b = 0x0203040506070809ull; s.c = 0x0a0b; s.d = 0x0c0d0e0f; s.e = 0x10);

  STRUCT(holds_packed);
  FIELD(holds_packed, a); FIELD(holds_packed, inner); FIELD(holds_packed, inner.b); FIELD(holds_packed, b);
  SAMPLE(holds_packed, s.a = 1; s.inner.a = 2; s.inner.b = 3; s.inner.c = 4; s.inner.d = 5; s.inner.e = 6; s.b = 7);

  STRUCT(packed_outside);
  FIELD(packed_outside, a); FIELD(packed_outside, inner); FIELD(packed_outside, inner.id);
  FIELD(packed_outside, b);
  SAMPLE(packed_outside, s.a = 1; s.inner.kind = 2; s.inner.id = 3; s.b = 4);

  STRUCT(network_order);
  FIELD(network_order, a); FIELD(network_order, port); FIELD(network_order, address); FIELD(network_order, id);
  SAMPLE(network_order, s.a = 1; s.port = htons(443); s.address = htonl(0x0a000001);
         s.id = be64(0x0102030405060708ull));

  STRUCT(connection);
  FIELD(connection, from6); FIELD(connection, proto); FIELD(connection, from); FIELD(connection, port);
  FIELD(connection, mac);
  SAMPLE(connection, inet_pton(AF_INET6, "2001:db8::1:0:0:1", &s.from6); s.proto = 6;
         inet_pton(AF_INET, "192.168.1.254", &s.from); s.port = htons(8080);
         memcpy(s.mac, "\x02\x42\xac\x11\x00\x02", 6));
  SAMPLE(connection, inet_pton(AF_INET6, "::ffff:10.1.2.3", &s.from6); s.proto = 17;
         inet_pton(AF_INET, "0.0.0.0", &s.from); s.port = 0);

  // For the library each of these is one value without members.
  STRUCT(lpm4);
  SAMPLE(lpm4, s.prefixlen = 12; inet_pton(AF_INET, "172.16.0.0", &s.address));
  SAMPLE(lpm4, s.prefixlen = 0);
  SAMPLE(lpm4, s.prefixlen = 32; inet_pton(AF_INET, "255.255.255.255", &s.address));

  STRUCT(lpm6);
  SAMPLE(lpm6, s.prefixlen = 33; inet_pton(AF_INET6, "2001:db8:8000::", &s.address));

  STRUCT(deep);
  FIELD(deep, a); FIELD(deep, levels); FIELD(deep, b);
  SAMPLE(deep, s.a = 1; s.b = true; for (int i = 0; i < 2; i++) {
    s.levels[i].a = 2; s.levels[i].inner.a = 3; s.levels[i].inner.b = 4u + (uint64_t)i; s.levels[i].b = 5;
  });
  return 0;
}
