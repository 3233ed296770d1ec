"""What the report says of the run as a whole: findings, configuration, times, origins."""
