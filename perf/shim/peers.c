/* DPDK's own routing tables behind plain functions; see peers.h. */
#include "peers.h"

#include <stddef.h>
#include <stdio.h>

#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <rte_malloc.h>

static unsigned int made;

static void *create_fib4(uint32_t routes, uint32_t tbl8s, const char *name,
			 enum rte_fib_dir24_8_nh_sz size, enum rte_fib_lookup_type type)
{
	struct rte_fib_conf conf = {
		.type = RTE_FIB_DIR24_8, .default_nh = 0, .max_routes = routes,
		.dir24_8 = { .nh_sz = size, .num_tbl8 = tbl8s },
	};
	struct rte_fib *fib = rte_fib_create(name, SOCKET_ID_ANY, &conf);
	if (fib != NULL && rte_fib_select_lookup(fib, type) != 0) {
		rte_fib_free(fib);
		return NULL;
	}
	return fib;
}

static void *create_fib6(uint32_t routes, uint32_t tbl8s, const char *name,
			 enum rte_fib_trie_nh_sz size, enum rte_fib6_lookup_type type)
{
	struct rte_fib6_conf conf = {
		.type = RTE_FIB6_TRIE, .default_nh = 0, .max_routes = routes,
		.trie = { .nh_sz = size, .num_tbl8 = tbl8s },
	};
	struct rte_fib6 *fib = rte_fib6_create(name, SOCKET_ID_ANY, &conf);
	if (fib != NULL && rte_fib6_select_lookup(fib, type) != 0) {
		rte_fib6_free(fib);
		return NULL;
	}
	return fib;
}

void *peer_create(enum peer_kind kind, uint32_t routes, uint32_t tbl8s)
{
	struct rte_lpm_config lpm = { .max_rules = routes, .number_tbl8s = tbl8s };
	struct rte_lpm6_config lpm6 = { .max_rules = routes, .number_tbl8s = tbl8s };
	char name[24];

	snprintf(name, sizeof(name), "peer%u", made++);
	switch (kind) {
	case PEER_FIB_2B:
		return create_fib4(routes, tbl8s, name, RTE_FIB_DIR24_8_2B, RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512);
	case PEER_FIB_4B:
		return create_fib4(routes, tbl8s, name, RTE_FIB_DIR24_8_4B, RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512);
	case PEER_FIB_2B_SCALAR:
		return create_fib4(routes, tbl8s, name, RTE_FIB_DIR24_8_2B, RTE_FIB_LOOKUP_DIR24_8_SCALAR_MACRO);
	case PEER_FIB_4B_SCALAR:
		return create_fib4(routes, tbl8s, name, RTE_FIB_DIR24_8_4B, RTE_FIB_LOOKUP_DIR24_8_SCALAR_MACRO);
	case PEER_LPM:
	case PEER_LPM_X4:
		return rte_lpm_create(name, SOCKET_ID_ANY, &lpm);
	case PEER_FIB6_2B:
		return create_fib6(routes, tbl8s, name, RTE_FIB6_TRIE_2B, RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512);
	case PEER_FIB6_4B:
		return create_fib6(routes, tbl8s, name, RTE_FIB6_TRIE_4B, RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512);
	case PEER_FIB6_2B_SCALAR:
		return create_fib6(routes, tbl8s, name, RTE_FIB6_TRIE_2B, RTE_FIB6_LOOKUP_TRIE_SCALAR);
	case PEER_FIB6_4B_SCALAR:
		return create_fib6(routes, tbl8s, name, RTE_FIB6_TRIE_4B, RTE_FIB6_LOOKUP_TRIE_SCALAR);
	case PEER_LPM6:
		return rte_lpm6_create(name, SOCKET_ID_ANY, &lpm6);
	}
	return NULL;
}

void peer_free(enum peer_kind kind, void *table)
{
	switch (kind) {
	case PEER_LPM:
	case PEER_LPM_X4:
		rte_lpm_free(table);
		break;
	case PEER_LPM6:
		rte_lpm6_free(table);
		break;
	case PEER_FIB6_2B:
	case PEER_FIB6_4B:
	case PEER_FIB6_2B_SCALAR:
	case PEER_FIB6_4B_SCALAR:
		rte_fib6_free(table);
		break;
	default:
		rte_fib_free(table);
	}
}

int peer_add4(enum peer_kind kind, void *table, uint32_t ip, uint8_t depth, uint32_t hop)
{
	if (kind == PEER_LPM || kind == PEER_LPM_X4)
		return rte_lpm_add(table, ip, depth, hop);
	return rte_fib_add(table, ip, depth, hop);
}

int peer_delete4(enum peer_kind kind, void *table, uint32_t ip, uint8_t depth)
{
	if (kind == PEER_LPM || kind == PEER_LPM_X4)
		return rte_lpm_delete(table, ip, depth);
	return rte_fib_delete(table, ip, depth);
}

int peer_add6(enum peer_kind kind, void *table, const uint8_t *ip, uint8_t depth, uint32_t hop)
{
	return kind == PEER_LPM6 ? rte_lpm6_add(table, ip, depth, hop) : rte_fib6_add(table, ip, depth, hop);
}

int peer_delete6(enum peer_kind kind, void *table, const uint8_t *ip, uint8_t depth)
{
	return kind == PEER_LPM6 ? rte_lpm6_delete(table, ip, depth) : rte_fib6_delete(table, ip, depth);
}

static void lookup_fib4(void *table, const uint32_t *ips, void *hops, unsigned int n)
{
	rte_fib_lookup_bulk(table, (uint32_t *)(uintptr_t)ips, hops, (int)n);
}

static void lookup_lpm(void *table, const uint32_t *ips, void *hops, unsigned int n)
{
	/* A constant count is its best case, and the usual one here. */
	if (n == 64)
		rte_lpm_lookup_bulk(table, ips, hops, 64);
	else
		rte_lpm_lookup_bulk(table, ips, hops, n);
}

static void lookup_lpm_x4(void *table, const uint32_t *ips, void *hops, unsigned int n)
{
	for (unsigned int i = 0; i < n; i += 4) {
		xmm_t four = _mm_loadu_si128((const __m128i *)(ips + i));
		rte_lpm_lookupx4(table, four, (uint32_t *)hops + i, 0);
	}
}

static void lookup_fib6(void *table, uint8_t (*ips)[16], void *hops, unsigned int n)
{
	rte_fib6_lookup_bulk(table, ips, hops, (int)n);
}

static void lookup_lpm6(void *table, uint8_t (*ips)[16], void *hops, unsigned int n)
{
	rte_lpm6_lookup_bulk_func(table, ips, hops, n);
}

peer_lookup4 peer_lookup4_of(enum peer_kind kind)
{
	return kind == PEER_LPM ? lookup_lpm : kind == PEER_LPM_X4 ? lookup_lpm_x4 : lookup_fib4;
}

peer_lookup6 peer_lookup6_of(enum peer_kind kind)
{
	return kind == PEER_LPM6 ? lookup_lpm6 : lookup_fib6;
}

uint32_t peer_hop(enum peer_kind kind, const void *hops, unsigned int at)
{
	uint32_t hop;

	switch (kind) {
	case PEER_LPM:
		hop = ((const uint32_t *)hops)[at];
		return hop & RTE_LPM_LOOKUP_SUCCESS ? hop & 0x00ffffff : 0;
	case PEER_LPM_X4:
		return ((const uint32_t *)hops)[at];
	case PEER_LPM6:
		hop = ((const uint32_t *)hops)[at];
		return hop == UINT32_MAX ? 0 : hop;
	default:
		return (uint32_t)((const uint64_t *)hops)[at];
	}
}

void *packet_memory(size_t bytes)
{
	return rte_zmalloc("ring", bytes, RTE_CACHE_LINE_SIZE);
}

void free_packet_memory(void *memory)
{
	rte_free(memory);
}
