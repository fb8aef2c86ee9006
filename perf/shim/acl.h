/* DPDK's access lists behind plain functions: what perf measures turnpike's against. */
#ifndef ACL_H
#define ACL_H

#include <stdint.h>

/* One rule: addresses in network byte order (4 or 16 bytes), ports and protocol as ranges and mask. */
struct acl_peer_rule {
	uint8_t source[16], destination[16];
	uint8_t source_len, destination_len;
	uint8_t protocol, protocol_mask;
	uint16_t source_ports[2], destination_ports[2];
};

/* The first rule comes first. Null when it cannot be made; v6 is 0 or 1. */
void *acl_peer_create(int v6, const struct acl_peer_rule *rules, uint32_t count);
void acl_peer_free(void *acl);
/* An algorithm of `enum rte_acl_classify_alg`; not 0 when this machine does not have it. */
int acl_peer_use(void *acl, int algorithm);
/* packets: IP headers. results: the number of the first rule that matches, from 1 on; 0 for none. */
int acl_peer_classify(void *acl, const uint8_t **packets, uint32_t *results, uint32_t n);

#endif
