"""What keeps other machines, other sites and strangers out."""
