"""What reads texts and pictures: visual embedding, connectors, the joint encoder, and the model round them."""
