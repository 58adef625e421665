"""What is wrong with a pair: measurements, the rules that judge them, and a picture."""
