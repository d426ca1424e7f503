package ring

func headOfMD5(data []byte) uint32 { return portableHeadOfMD5(data) }
