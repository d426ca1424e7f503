package snapshot

import (
	"testing"

	"github.com/quoitdb/quoit/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
