"""The brokers: where topics live. Two Faust transports that lose nothing, and their journals."""
