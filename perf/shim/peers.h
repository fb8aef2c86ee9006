/* DPDK's own routing tables behind plain functions: what perf measures turnpike's against. */
#ifndef PEERS_H
#define PEERS_H

#include <stddef.h>
#include <stdint.h>

/* Which table, and which of its look-ups. */
enum peer_kind {
	PEER_FIB_2B, PEER_FIB_4B,             /* rte_fib, DIR-24-8, AVX-512 */
	PEER_FIB_2B_SCALAR, PEER_FIB_4B_SCALAR,
	PEER_LPM, PEER_LPM_X4,                /* rte_lpm, bulk and four at once */
	PEER_FIB6_2B, PEER_FIB6_4B,           /* rte_fib6, trie, AVX-512 */
	PEER_FIB6_2B_SCALAR, PEER_FIB6_4B_SCALAR,
	PEER_LPM6,
};

/* Null when it cannot be made: no memory, or a look-up that this machine does not have. */
void *peer_create(enum peer_kind kind, uint32_t routes, uint32_t tbl8s);
void peer_free(enum peer_kind kind, void *table);
int peer_add4(enum peer_kind kind, void *table, uint32_t ip, uint8_t depth, uint32_t hop);
int peer_delete4(enum peer_kind kind, void *table, uint32_t ip, uint8_t depth);
int peer_add6(enum peer_kind kind, void *table, const uint8_t *ip, uint8_t depth, uint32_t hop);
int peer_delete6(enum peer_kind kind, void *table, const uint8_t *ip, uint8_t depth);

/* n is a multiple of 4, at most 64; hops has room for n 64-bit words, which each table fills in its own way. */
typedef void (*peer_lookup4)(void *table, const uint32_t *ips, void *hops, unsigned int n);
typedef void (*peer_lookup6)(void *table, uint8_t (*ips)[16], void *hops, unsigned int n);
peer_lookup4 peer_lookup4_of(enum peer_kind kind);
peer_lookup6 peer_lookup6_of(enum peer_kind kind);
/* The hop that a look-up left at `at`; 0 for none. */
uint32_t peer_hop(enum peer_kind kind, const void *hops, unsigned int at);

/* Zeroed memory where packets would be: on DPDK's huge pages. Null when there is none. */
void *packet_memory(size_t bytes);
void free_packet_memory(void *memory);

#endif
