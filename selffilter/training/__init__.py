"""The batch plan, exposures, schedules, the Lightning module and its trainer."""
