//go:build !unix

package node

const canSendNow = false

func sendNow(uintptr, []byte) (sent int, lost bool) { return 0, false }
