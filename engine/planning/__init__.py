"""Who answers what: stored plans of calibration and of the strategies."""
