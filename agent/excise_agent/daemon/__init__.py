"""The daemon: finds workloads, watches all of them at once, and keeps and ships a summary of each window of each."""
