"""What an operator sees and does: status, explain, repair, verify, notify, metrics, report, and luigid's door."""
