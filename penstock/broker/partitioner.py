"""Which partition of a topic a key is in: as Kafka's default partitioner chooses."""

import functools

_MULTIPLIER, _ALL = 0x5BD1E995, 0xFFFFFFFF


@functools.lru_cache(maxsize=65536)
def partition_of_key(key: bytes, partitions: int) -> int:
    """The partition of `key`, of so many."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2)."""
    # aiokafka has it, too: in a package that takes a tenth of a second to import, for Kafka alone.
    whole = len(data) & ~3
    found = 0x9747B28C ^ len(data)
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _MULTIPLIER & _ALL
        word = (word ^ word >> 24) * _MULTIPLIER & _ALL
        found = found * _MULTIPLIER & _ALL ^ word
    if whole < len(data):
        found = (found ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _ALL
    found = (found ^ found >> 13) * _MULTIPLIER & _ALL
    return found ^ found >> 15
