package main

import (
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// progressBar is a bar on standard error when a person looks at it, else nothing.
type progressBar struct{ bar *progressbar.ProgressBar }

// newBar draws a bar to total; a negative total counts without knowing how much
// is to come.
func newBar(c *cobra.Command, total int64, what string, more ...progressbar.Option) progressBar {
	if !isTerminal(c.ErrOrStderr()) {
		return progressBar{}
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(c.ErrOrStderr()),
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(50 * time.Millisecond),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionClearOnFinish(),
	}
	return progressBar{progressbar.NewOptions64(total, append(options, more...)...)}
}

// newCounter counts keys, and how many there are in a second.
func newCounter(c *cobra.Command, what string) progressBar {
	// Drawn at once: the bar's own goroutine looks without a lock whether it was ever drawn.
	return newBar(c, -1, what, progressbar.OptionSetRenderBlankState(true), progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("keys"))
}

func (p progressBar) set(n int64) {
	if p.bar != nil {
		_ = p.bar.Set64(n)
	}
}

// describe changes what stands before the bar.
func (p progressBar) describe(text string) {
	if p.bar != nil {
		p.bar.Describe(text)
	}
}

func (p progressBar) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
