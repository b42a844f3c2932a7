"""librdkafka's mock cluster, which is in the confluent-kafka wheel, as a program of its own.

It prints its address and runs until its standard input ends. Kafka's protocol with nothing to
install, on a laptop; in memory only, one member a group, no CreateTopics, 5 MB a partition.
"""

import ctypes
import pathlib
import sys

import confluent_kafka

#: librdkafka's rd_kafka_type_t.
PRODUCER = 0


def _library() -> ctypes.CDLL:
    """The very librdkafka of the wheel: its Python module has no way to the mock's settings."""
    package = pathlib.Path(confluent_kafka.__file__).parent
    beside = package.with_name(package.name + ".libs")
    found = [*beside.glob("librdkafka*"), *package.glob(".dylibs/librdkafka*")]
    if not found:
        raise SystemExit(f"there is no librdkafka beside {package}")
    return ctypes.CDLL(str(found[0]))


def main() -> None:
    lib = _library()
    for name in ("rd_kafka_new", "rd_kafka_conf_new", "rd_kafka_mock_cluster_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    why = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(lib.rd_kafka_conf_new())
    lib.rd_kafka_conf_set(conf, b"log_level", b"3", None, 0)
    client = ctypes.c_void_p(lib.rd_kafka_new(PRODUCER, conf, why, ctypes.c_size_t(len(why))))
    if not client:
        raise SystemExit(why.value.decode())
    cluster = ctypes.c_void_p(lib.rd_kafka_mock_cluster_new(client, 1))
    # Each new group would wait for 3 s for more members, and there are none to come.
    lib.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
    print(lib.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
