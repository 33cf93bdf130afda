"""Monitoring: figures from outside, asked of the servers that keep them. Owns no state."""
