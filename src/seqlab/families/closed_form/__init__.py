"""What families fitted by counting, least squares and EM are made of, a file each."""
