"""Files in and out: images, disparity maps, pictures; always guarded on the way in, atomic on the way out."""
