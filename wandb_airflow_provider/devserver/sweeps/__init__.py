"""Sweeps: their configuration, the search behind them, and the agents that ask it what to run next."""
