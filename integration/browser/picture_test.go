package browser

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/quoitdb/quoit/internal/local"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
)

var picture = flag.Bool("picture", false, "take the picture of the console for README.md, docs/console.png, anew")

// pictureBytes is what a README may have people load.
const pictureBytes = 200_000

// TestThePictureOfTheConsole takes it while a fourth node joins a cluster that is used:
//
//	go test ./integration/browser -run ThePictureOfTheConsole -picture
func TestThePictureOfTheConsole(t *testing.T) {
	const name = "../../docs/console.png"
	if !*picture {
		if info, err := os.Stat(name); err != nil || info.Size() > pictureBytes {
			t.Errorf("README.md shows %s, which is not there or too large: %v", name, err)
		}
		return
	}
	n, m := node.DefaultConfig(), manager.DefaultConfig()
	n.Tokens = 64 // many, so that the ring looks as people's do; not more, or ranges move too fast to be seen
	s := &site{stage: (&stage{}).start(t, local.Options{Nodes: 3, Node: &n, Manager: &m})}
	s.db = s.client()
	for i := range 3000 {
		s.put(fmt.Sprintf("user:%d", 1000+i), user(i))
	}
	for i := range 1200 {
		s.put(fmt.Sprintf("cart:%d", 100+i), fmt.Sprintf("%d pears, %d plums", i%5+2, i%7+2))
	}
	use(t, s)
	operator, err := manager.Dial(t.Context(), s.cluster.Manager(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	p := s.browser().blank("/")
	p.size(1360, 1010)
	p.scheme("light")
	p.says("#connection", "Connected")
	if err := operator.Throttle(300_000); err != nil {
		t.Fatal(err)
	}
	if _, err := s.cluster.AddNode(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.fill("#data-prefix", "cart:")
	p.click("#data-scan button")
	p.until("the carts", `document.querySelectorAll(".key-row").length === 50`)
	for _, row := range []int{5, 1, 4, 2, 3} { // requests one by one, for the route log
		p.click(fmt.Sprintf("li:nth-child(%d) .key-row", row))
		p.until("its value", `!document.querySelector("#data-editor form").hasAttribute("aria-busy")`)
	}
	p.fill("#value", "4 pears, 3 plums, 1 quince")
	p.click("#data-editor .primary")
	p.says("#data-editor .message", "Saved.")
	p.until("some ranges moved and some moving", `document.querySelectorAll(".move").length >= 2 && parseInt(document.querySelector("#moves-note").textContent) < 60`)
	p.until("traffic", `document.querySelectorAll(".routes tbody tr").length >= 15`)
	eval[any](p, `document.activeElement.blur(); await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))`)
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	data, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if data = small(t, data); len(data) > pictureBytes {
		t.Errorf("it has %d bytes", len(data))
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// user is a value that is large enough for a move to take a while.
func user(i int) string {
	name := []string{"Ada", "Grace", "Barbara", "Edsger"}[i%4]
	return fmt.Sprintf(`{"name":%q,"visits":%d,"notes":%q}`, name, i%97, strings.Repeat("likes pears ", 2000))
}

// use reads and writes until the test ends.
func use(t *testing.T, s *site) {
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	for range 4 {
		working.Go(func() {
			for ctx.Err() == nil {
				key := fmt.Sprintf("user:%d", 1000+rand.IntN(3000))                 // any will do
				if _, err := s.db.Get(ctx, key); err == nil && rand.IntN(50) == 0 { // as above
					_ = s.db.Put(ctx, key, []byte(user(rand.IntN(100)))) // as above
				}
			}
		})
	}
	t.Cleanup(func() {
		stop()
		working.Wait()
	})
}

// small makes a picture of at most 256 colours, those that it has most of: a page of flat
// colours and letters looks the same, and takes a third.
func small(t *testing.T, data []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[color.Color]int)
	bounds := full.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[full.At(x, y)]++
		}
	}
	var most color.Palette
	for c := range count {
		most = append(most, c)
	}
	slices.SortFunc(most, func(a, b color.Color) int { return cmp.Compare(count[b], count[a]) })
	out := image.NewPaletted(bounds, most[:min(256, len(most))])
	index := make(map[color.Color]uint8)
	for c := range count {
		index[c] = uint8(out.Palette.Index(c))
	}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			out.SetColorIndex(x, y, index[full.At(x, y)])
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, out); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
