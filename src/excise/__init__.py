"""Excise, the pure half: records, rules, the ledger, reports. Runs as any user, with no kernel access."""

__version__ = "0.1.0"
