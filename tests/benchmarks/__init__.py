"""Speed and memory against peers, measured in one run, reported as ratios; nothing asserted."""
