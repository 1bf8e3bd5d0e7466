"""Scaling laws: losses of several runs in, a fitted law with intervals and a held-out prediction out."""
