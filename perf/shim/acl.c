/* DPDK's access lists behind plain functions; see acl.h. Fields are read from IP headers without options. */
#include "acl.h"

#include <stdio.h>
#include <string.h>

#include <rte_acl.h>

enum { FIELDS4 = 5, FIELDS6 = 11 };

RTE_ACL_RULE_DEF(rule4, FIELDS4);
RTE_ACL_RULE_DEF(rule6, FIELDS6);

static const struct rte_acl_field_def fields4[FIELDS4] = {
	{ RTE_ACL_FIELD_TYPE_BITMASK, 1, 0, 0, 9 },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 1, 1, 12 },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 2, 2, 16 },
	{ RTE_ACL_FIELD_TYPE_RANGE, 2, 3, 3, 20 },
	{ RTE_ACL_FIELD_TYPE_RANGE, 2, 4, 3, 22 },
};

static const struct rte_acl_field_def fields6[FIELDS6] = {
	{ RTE_ACL_FIELD_TYPE_BITMASK, 1, 0, 0, 6 },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 1, 1, 8 },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 2, 2, 12 },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 3, 3, 16 },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 4, 4, 20 },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 5, 5, 24 },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 6, 6, 28 },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 7, 7, 32 },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 8, 8, 36 },
	{ RTE_ACL_FIELD_TYPE_RANGE, 2, 9, 9, 40 },
	{ RTE_ACL_FIELD_TYPE_RANGE, 2, 10, 9, 42 },
};

static uint32_t word(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* The part of a prefix that each of `words` 32-bit words has. */
static void prefix(struct rte_acl_field *to, const uint8_t *address, uint8_t len, unsigned int words)
{
	for (unsigned int at = 0; at < words; at++) {
		unsigned int before = at * 32;

		to[at].value.u32 = word(address + at * 4);
		to[at].mask_range.u32 = len <= before ? 0 : len - before > 32 ? 32 : len - before;
	}
}

static void fields(struct rte_acl_field *to, const struct acl_peer_rule *from, unsigned int words)
{
	to[0].value.u8 = from->protocol;
	to[0].mask_range.u8 = from->protocol_mask;
	prefix(to + 1, from->source, from->source_len, words);
	prefix(to + 1 + words, from->destination, from->destination_len, words);
	to += 1 + 2 * words;
	to[0].value.u16 = from->source_ports[0];
	to[0].mask_range.u16 = from->source_ports[1];
	to[1].value.u16 = from->destination_ports[0];
	to[1].mask_range.u16 = from->destination_ports[1];
}

static int add(struct rte_acl_ctx *ctx, int v6, const struct acl_peer_rule *from, uint32_t number, int priority)
{
	struct rule4 four = { .data = { .category_mask = 1, .priority = priority, .userdata = number } };
	struct rule6 six = { .data = { .category_mask = 1, .priority = priority, .userdata = number } };

	if (v6) {
		fields(six.field, from, 4);
		return rte_acl_add_rules(ctx, (struct rte_acl_rule *)&six, 1);
	}
	fields(four.field, from, 1);
	return rte_acl_add_rules(ctx, (struct rte_acl_rule *)&four, 1);
}

void *acl_peer_create(int v6, const struct acl_peer_rule *rules, uint32_t count)
{
	static unsigned int made;
	char name[24];
	struct rte_acl_param param = {
		.name = name, .socket_id = SOCKET_ID_ANY, .max_rule_num = count,
		.rule_size = RTE_ACL_RULE_SZ(v6 ? FIELDS6 : FIELDS4),
	};
	struct rte_acl_config config = { .num_categories = 1, .num_fields = v6 ? FIELDS6 : FIELDS4 };
	struct rte_acl_ctx *ctx;
	int result = 0;

	snprintf(name, sizeof(name), "acl%u", made++);
	memcpy(config.defs, v6 ? fields6 : fields4, v6 ? sizeof(fields6) : sizeof(fields4));
	ctx = rte_acl_create(&param);
	if (ctx == NULL)
		return NULL;
	for (uint32_t at = 0; at < count && result == 0; at++)
		result = add(ctx, v6, rules + at, at + 1, (int)(count - at));
	if (result == 0)
		result = rte_acl_build(ctx, &config);
	if (result != 0) {
		rte_acl_free(ctx);
		return NULL;
	}
	return ctx;
}

void acl_peer_free(void *acl)
{
	rte_acl_free(acl);
}

int acl_peer_use(void *acl, int algorithm)
{
	return rte_acl_set_ctx_classify(acl, (enum rte_acl_classify_alg)algorithm);
}

int acl_peer_classify(void *acl, const uint8_t **packets, uint32_t *results, uint32_t n)
{
	return rte_acl_classify(acl, packets, results, n, 1);
}
