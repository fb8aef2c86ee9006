/* Offset and size of each rte_mbuf field that Rust reads or writes by itself.
 *
 * libclang evaluates this enum for Rust; shim.c checks the values that Rust got against the C compiler's. */
#ifndef DPDK_SYS_LAYOUT_H
#define DPDK_SYS_LAYOUT_H

#include <stddef.h>
#include <rte_mbuf.h>

#define DPDK_SYS_MBUF_FIELDS(X) \
	X(buf_addr)             \
	X(data_off)             \
	X(nb_segs)              \
	X(port)                 \
	X(ol_flags)             \
	X(packet_type)          \
	X(pkt_len)              \
	X(data_len)             \
	X(vlan_tci)             \
	X(vlan_tci_outer)       \
	X(buf_len)              \
	X(next)

enum dpdk_sys_layout {
#define X(field)                                                \
	MBUF_OFFSET_##field = offsetof(struct rte_mbuf, field), \
	MBUF_SIZE_##field = sizeof(((struct rte_mbuf *)0)->field),
	DPDK_SYS_MBUF_FIELDS(X)
#undef X
	MBUF_SIZE = sizeof(struct rte_mbuf),
	MBUF_ALIGN = _Alignof(struct rte_mbuf),
};

#endif
