"""Scoring: metrics, intervals, decisions, and the formats that answers are scored in."""
