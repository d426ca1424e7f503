package sim

// former is a process that goes on although another one has started in its place: on a
// machine that was given up, and whose disk was taken from it for the successor. Clients do
// not reach it any more: what it answered them would be out of date until it reads the
// document, which docs/reliability.md says and nothing could change. Members and the
// bucket it reaches, and nothing that it does there may harm the successor.
type former struct {
	p    *process
	stop func()
}

// supersede starts another process beside the one that runs, on its disk.
func (m *machine) supersede() bool {
	m.mu.Lock()
	if m.p == nil || m.off {
		m.mu.Unlock()
		return false
	}
	f := former{p: m.p, stop: m.stop}
	m.disk.detach()
	m.old = append(m.old, f)
	m.p, m.stop = nil, nil
	m.w.net.cutClients(f.p)
	m.mu.Unlock()
	m.boot()
	return true
}

// bury ends a process that was superseded, unless p is none.
func (m *machine) bury(p *process, how string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, f := range m.old {
		if f.p != p {
			continue
		}
		m.old = append(m.old[:i:i], m.old[i+1:]...)
		p.dead.Store(true)
		m.w.trace.fault(how, p.name)
		m.w.net.die(p, false)
		p.thaw()
		m.ending.Go(f.stop)
		return
	}
}

// processes are all that run here.
func (m *machine) processes() []*process {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*process
	if m.p != nil {
		all = append(all, m.p)
	}
	for _, f := range m.old {
		all = append(all, f.p)
	}
	return all
}

// formerRunning is a process that was superseded and has not ended, nil if there is none.
func (m *machine) formerRunning() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.old) == 0 {
		return nil
	}
	return m.old[0].p
}
