"""Videos: a folder of talking-head videos as clips of one face each."""
