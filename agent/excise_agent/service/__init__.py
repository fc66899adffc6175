"""What a daemon needs of its host: systemd's notifications, the journal, and a socket for questions."""
