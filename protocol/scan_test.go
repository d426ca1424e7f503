package protocol_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func TestParseScan(t *testing.T) {
	long := strings.Repeat("a", protocol.MaxPattern)
	for _, tt := range []struct {
		in   string
		want protocol.ScanArgs
		code protocol.Code
	}{
		{"SCAN 0", protocol.ScanArgs{Count: 10}, ""},
		{"SCAN 18446744073709551615", protocol.ScanArgs{Cursor: 1<<64 - 1, Count: 10}, ""},
		{"SCAN 5 MATCH user:*", protocol.ScanArgs{Cursor: 5, Match: []byte("user:*"), Count: 10}, ""},
		{"SCAN 5 match *", protocol.ScanArgs{Cursor: 5, Count: 10}, ""},
		{"SCAN 5 MATCH a MATCH *", protocol.ScanArgs{Cursor: 5, Count: 10}, ""},
		{"SCAN 0 COUNT 1 MATCH " + long, protocol.ScanArgs{Count: 1, Match: []byte(long)}, ""},
		{"SCAN 0 count 10000", protocol.ScanArgs{Count: protocol.MaxScanCount}, ""},
		{"SCAN 0 COUNT 18446744073709551615", protocol.ScanArgs{Count: protocol.MaxScanCount}, ""},
		{"SCAN", protocol.ScanArgs{}, protocol.ERR},
		{"SCAN x", protocol.ScanArgs{}, protocol.ERR},
		{"SCAN -1", protocol.ScanArgs{}, protocol.ERR},
		{"SCAN 0 MATCH", protocol.ScanArgs{}, protocol.ERR},
		{"SCAN 0 COUNT 0", protocol.ScanArgs{}, protocol.ERR},
		{"SCAN 0 COUNT -1", protocol.ScanArgs{}, protocol.ERR},
		{"SCAN 0 COUNT x", protocol.ScanArgs{}, protocol.ERR},
		{"SCAN 0 TYPE string", protocol.ScanArgs{}, protocol.ERR},
		{"SCAN 0 MATCH a" + long, protocol.ScanArgs{}, protocol.TOOLARGE},
	} {
		got, err := protocol.ParseScan(args(tt.in))
		if !reflect.DeepEqual(got, tt.want) || code(t, err) != tt.code {
			t.Errorf("%.40s: %+v, %v", tt.in, got, err)
		}
	}
}
