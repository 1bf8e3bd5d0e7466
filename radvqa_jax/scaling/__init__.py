"""Scaling laws: fits a law to the losses of several runs, with intervals and a held-out prediction."""
