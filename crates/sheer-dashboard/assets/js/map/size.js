// The box of a node, for whoever lays it out and whoever draws it.
export const NODE = { w: 158, h: 46 };
