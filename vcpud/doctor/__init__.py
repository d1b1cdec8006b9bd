"""`vcpud doctor`: what is in the way of vcpud on this host and in its guests, and what to do.

Facts are collected at the rim (`collect`), findings are drawn from them by pure probes (`probes`).
A fact that could not be looked at is None and yields no finding; what was not seen, and why, is
said instead.
"""
