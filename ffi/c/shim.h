/* Plain C functions for what DPDK has inline only, or in a shape that differs between its versions. */
#ifndef DPDK_SYS_SHIM_H
#define DPDK_SYS_SHIM_H

#include <stdbool.h>
#include <stdint.h>

struct rte_mbuf;
struct rte_mempool;

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
uint16_t shim_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);

struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool);
/* 0, or a negative errno with nothing allocated. */
int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **pkts, unsigned int n);
void shim_pktmbuf_free(struct rte_mbuf *m);

uint64_t shim_rdtsc(void);
int shim_errno(void);
unsigned int shim_lcore_id(void);

/* Link state without waiting; 0 or a negative errno. The struct's shape differs between versions. */
int shim_eth_link(uint16_t port, uint32_t *speed_mbps, bool *up, bool *full_duplex);

/* Has DPDK's interrupt thread call `parked` once `fd` can be read; 0 or a negative errno. */
int shim_park_interrupt_thread(int fd, void (*parked)(void *));

#endif
