"""What marks a row of a leaderboard that is no cell: of its own, so that what marks one imports no comparison."""

OUTSIDE = "outside"  # the strategy of a system from elsewhere
ENSEMBLE = "ensemble"  # the strategy of systems joined from others of their table
