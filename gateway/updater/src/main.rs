//! gateway-update: brings the box up to the release that the city has signed. Wires; everything else is in the library.

fn main() {}
