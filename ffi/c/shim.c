/* For a handle of an interrupt of our own. An alarm would reach the interrupt thread, too, but rte_eal_cleanup waits until
 * alarms have ended. */
#define ALLOW_EXPERIMENTAL_API

#include <errno.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>

#include "layout.h"
#include "shim.h"
/* Written by the build script: RUST_<name> for each enumerator of layout.h, with the value that Rust uses. */
#include "rust_layout.h"

#define X(field)                                                                                            \
	_Static_assert(MBUF_OFFSET_##field == RUST_MBUF_OFFSET_##field, "rte_mbuf." #field ": offset in Rust"); \
	_Static_assert(MBUF_SIZE_##field == RUST_MBUF_SIZE_##field, "rte_mbuf." #field ": size in Rust");
DPDK_SYS_MBUF_FIELDS(X)
#undef X
_Static_assert(MBUF_SIZE == RUST_MBUF_SIZE, "size of rte_mbuf in Rust");
_Static_assert(MBUF_ALIGN == RUST_MBUF_ALIGN, "alignment of rte_mbuf in Rust");

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, pkts, n);
}

uint16_t shim_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	return rte_eth_tx_prepare(port, queue, pkts, n);
}

uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, pkts, n);
}

struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **pkts, unsigned int n)
{
	return rte_pktmbuf_alloc_bulk(pool, pkts, n);
}

void shim_pktmbuf_free(struct rte_mbuf *m)
{
	rte_pktmbuf_free(m);
}

uint64_t shim_rdtsc(void)
{
	return rte_rdtsc();
}

int shim_errno(void)
{
	return rte_errno;
}

unsigned int shim_lcore_id(void)
{
	return rte_lcore_id();
}

int shim_eth_link(uint16_t port, uint32_t *speed_mbps, bool *up, bool *full_duplex)
{
	struct rte_eth_link link = {0};
	int ret = rte_eth_link_get_nowait(port, &link);

	if (ret != 0)
		return ret;
	*speed_mbps = link.link_speed;
	*up = link.link_status == RTE_ETH_LINK_UP;
	*full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return 0;
}

int shim_park_interrupt_thread(int fd, void (*parked)(void *))
{
	struct rte_intr_handle *handle = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);

	if (handle == NULL || rte_intr_fd_set(handle, fd) != 0 ||
	    rte_intr_type_set(handle, RTE_INTR_HANDLE_EXT) != 0)
		return -ENOMEM;
	return rte_intr_callback_register(handle, parked, NULL);
}
