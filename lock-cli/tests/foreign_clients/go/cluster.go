// Package integration takes the place of etcd's own harness, so that the tests of etcd's Go client
// run against a server outside of their process: the program that the variable SERVER names, which
// is `turnlock` or `etcd`. A variable SERVER_X is X for that program.
//
// A cluster is always one server. Its members are addresses of it. A member that is stopped is an
// address that refuses connections, and the server ends with the last one.
package integration

import (
	"context"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/etcdserver"
	epb "go.etcd.io/etcd/etcdserver/api/v3election/v3electionpb"
	lockpb "go.etcd.io/etcd/etcdserver/api/v3lock/v3lockpb"
	pb "go.etcd.io/etcd/etcdserver/etcdserverpb"
	"go.etcd.io/etcd/pkg/transport"
	"go.etcd.io/etcd/pkg/types"
)

const (
	// RequestWaitTimeout is how long tests wait for a request that is to go through.
	RequestWaitTimeout = 4 * time.Second
	tickDuration       = 10 * time.Millisecond
	electionTicks      = 10
	// patience is far more than a start takes. Only a fault uses it up.
	patience = 60 * time.Second
)

// The tests of TLS name these, and are skipped.
var testTLSInfo, testTLSInfoIP, testTLSInfoExpired, testTLSInfoExpiredIP transport.TLSInfo

// ClusterConfig has what tests ask for. A test that asks for more than members is skipped: the
// server is started as its users start it.
type ClusterConfig struct {
	Size               int
	SkipCreatingClient bool
	UseGRPC            bool
	UseIP              bool

	ClientMaxCallSendMsgSize int
	ClientMaxCallRecvMsgSize int

	PeerTLS, ClientTLS          *transport.TLSInfo
	GRPCKeepAliveInterval       time.Duration
	GRPCKeepAliveTimeout        time.Duration
	MaxRequestBytes             uint
	MaxTxnOps                   uint
	QuotaBackendBytes           int64
	SnapshotCount               uint64
	EnableLeaseCheckpoint       bool
	LeaseCheckpointInterval     time.Duration
	LeaseCheckpointPersist      bool
	WatchProgressNotifyInterval time.Duration
}

func (c *ClusterConfig) isServed() bool {
	return c.ClientTLS == nil && c.SnapshotCount == 0 && c.GRPCKeepAliveInterval == 0 && c.GRPCKeepAliveTimeout == 0 && c.MaxRequestBytes == 0 &&
		c.MaxTxnOps == 0 && c.QuotaBackendBytes == 0 && !c.EnableLeaseCheckpoint &&
		c.WatchProgressNotifyInterval == 0
}

// server is the process, and the folder that it is started on again.
type server struct {
	folder  string
	address string
	process *exec.Cmd
	up      int
}

func (s *server) start() error {
	if s.process != nil {
		return nil
	}
	program := os.Getenv("SERVER")
	var args []string
	switch filepath.Base(program) {
	case "turnlock":
		args = []string{"serve", "--quiet", "--listen", s.address, "--data", s.folder}
	case "etcd":
		url := "http://" + s.address
		args = []string{"--data-dir", s.folder, "--log-level", "error",
			"--listen-client-urls", url, "--advertise-client-urls", url,
			"--listen-peer-urls", "http://127.0.0.1:0"}
	default:
		return fmt.Errorf("SERVER is %q: give the path of turnlock or etcd", program)
	}
	s.process = exec.Command(program, args...)
	s.process.Stderr = os.Stderr
	s.process.Env = os.Environ()
	for _, variable := range os.Environ() {
		if rest := strings.TrimPrefix(variable, "SERVER_"); rest != variable {
			s.process.Env = append(s.process.Env, rest)
		}
	}
	// It does not outlive a test that panics.
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.process.Start(); err != nil {
		return err
	}
	for begun := time.Now(); time.Since(begun) < patience; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", s.address); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("%s does not listen on %s", program, s.address)
}

func (s *server) kill() {
	if s.process != nil {
		s.process.Process.Kill()
		s.process.Wait()
		s.process = nil
	}
}

// member is an address of the server: a relay, whose connections tests can cut.
type member struct {
	etcdserver.ServerConfig
	ClientTLSInfo *transport.TLSInfo
	DialOptions   []grpc.DialOption

	server   *server
	config   *ClusterConfig
	grpcAddr string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	paused   chan struct{}
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// GRPCAddr returns the address for clients.
func (m *member) GRPCAddr() string { return m.grpcAddr }

// ID returns an id that no server has.
func (m *member) ID() types.ID { return 0 }

// Launch starts the server, unless it runs, and listens.
func (m *member) Launch() error {
	if err := m.server.start(); err != nil {
		return err
	}
	address := m.grpcAddr
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	m.grpcAddr = listener.Addr().String()
	m.server.up++
	m.mu.Lock()
	m.listener, m.conns = listener, map[net.Conn]bool{}
	m.mu.Unlock()
	go m.accept(listener)
	return nil
}

func (m *member) accept(listener net.Listener) {
	for {
		from, err := listener.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		paused := m.paused
		m.mu.Unlock()
		if paused != nil {
			<-paused
		}
		to, err := net.Dial("tcp", m.server.address)
		if err != nil {
			from.Close()
			continue
		}
		m.mu.Lock()
		m.conns[from] = true
		m.conns[to] = true
		m.mu.Unlock()
		go m.relay(from, to)
		go m.relay(to, from)
	}
}

func (m *member) relay(from, to net.Conn) {
	io.Copy(to, from)
	from.Close()
	to.Close()
	m.mu.Lock()
	delete(m.conns, from)
	delete(m.conns, to)
	m.mu.Unlock()
}

// DropConnections cuts all connections.
func (m *member) DropConnections() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for conn := range m.conns {
		conn.Close()
	}
}

// PauseConnections lets new connections wait.
func (m *member) PauseConnections() {
	m.mu.Lock()
	m.paused = make(chan struct{})
	m.mu.Unlock()
}

// UnpauseConnections lets new connections through.
func (m *member) UnpauseConnections() {
	m.mu.Lock()
	close(m.paused)
	m.paused = nil
	m.mu.Unlock()
}

// Stop refuses connections, and kills the server if this is its last member.
func (m *member) Stop(t testing.TB) {
	if m.listener == nil {
		return
	}
	m.listener.Close()
	m.listener = nil
	m.server.up--
	if m.server.up == 0 {
		m.server.kill()
	}
	m.DropConnections()
}

// Terminate does as Stop: nobody starts the member again.
func (m *member) Terminate(t testing.TB) { m.Stop(t) }

// StopNotify returns a channel that is closed, since Stop waits.
func (m *member) StopNotify() <-chan struct{} {
	stopped := make(chan struct{})
	close(stopped)
	return stopped
}

// ReadyNotify returns a channel that is closed, since Launch waits.
func (m *member) ReadyNotify() <-chan struct{} { return m.StopNotify() }

// Restart starts the member again, with what the server has stored.
func (m *member) Restart(t testing.TB) error { return m.Launch() }

// WaitOK returns at once: Restart waits.
func (m *member) WaitOK(t testing.TB) {}

// Pause suspends the server.
func (m *member) Pause() { must(m.server.process.Process.Signal(syscall.SIGSTOP)) }

// Resume lets the server go on.
func (m *member) Resume() { must(m.server.process.Process.Signal(syscall.SIGCONT)) }

// Metric fails: the metrics are other ones.
func (m *member) Metric(name string) (string, error) {
	return "", fmt.Errorf("%s is not asked for", name)
}

// NewClientV3 makes a client of one member.
func NewClientV3(m *member) (*clientv3.Client, error) {
	return newClientV3(clientv3.Config{
		Endpoints:          []string{m.grpcAddr},
		DialTimeout:        patience,
		DialOptions:        append(m.DialOptions, grpc.WithBlock()),
		MaxCallSendMsgSize: m.config.ClientMaxCallSendMsgSize,
		MaxCallRecvMsgSize: m.config.ClientMaxCallRecvMsgSize,
	})
}

// WaitClientV3 waits until a client is answered.
func WaitClientV3(t testing.TB, kv clientv3.KV) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := kv.Get(ctx, "/")
	must(err)
}

type cluster struct {
	Members []*member
	server  *server
}

// WaitLeader returns the first member: there is one server, which leads.
func (c *cluster) WaitLeader(t testing.TB) int                    { return 0 }
func (c *cluster) waitLeader(t testing.TB, members []*member) int { return 0 }

// ClusterV3 is a server with a client for each of its members.
type ClusterV3 struct {
	*cluster
	clients []*clientv3.Client
}

// NewClusterByConfig makes a server with an empty folder. Like all here it panics if that fails,
// since some tests pass no testing.TB.
func NewClusterByConfig(t testing.TB, cfg *ClusterConfig) *cluster {
	if !cfg.isServed() {
		t.Skip("needs a server with other settings")
	}
	folder, err := os.MkdirTemp("", "foreign-clients-")
	must(err)
	address, err := freeAddress()
	must(err)
	c := &cluster{server: &server{folder: folder, address: address}}
	for i := 0; i < cfg.Size; i++ {
		m := &member{server: c.server, config: cfg}
		m.ElectionTicks = electionTicks
		m.TickMs = uint(tickDuration / time.Millisecond)
		c.Members = append(c.Members, m)
	}
	return c
}

// Launch starts the server, and lets all members listen.
func (c *cluster) Launch(t testing.TB) {
	for _, m := range c.Members {
		must(m.Launch())
	}
}

// NewClusterV3 starts a server, and makes the clients.
func NewClusterV3(t testing.TB, cfg *ClusterConfig) *ClusterV3 {
	c := &ClusterV3{cluster: NewClusterByConfig(t, cfg)}
	c.Launch(t)
	if !cfg.SkipCreatingClient {
		for _, m := range c.Members {
			client, err := NewClientV3(m)
			must(err)
			c.clients = append(c.clients, client)
		}
	}
	return c
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// AddAndLaunchLearnerMember skips the test: the members are addresses of one server.
func (c *ClusterV3) AddAndLaunchLearnerMember(t testing.TB) { t.Skip("there are no learners") }

// GetLearnerMembers returns none.
func (c *ClusterV3) GetLearnerMembers() ([]*pb.Member, error) { return nil, nil }

// Client returns the client of a member.
func (c *ClusterV3) Client(i int) *clientv3.Client { return c.clients[i] }

// RandClient returns the client of any member.
func (c *ClusterV3) RandClient() *clientv3.Client { return c.clients[rand.Intn(len(c.clients))] }

// TakeClient leaves the client of a member to the test.
func (c *ClusterV3) TakeClient(i int) { c.clients[i] = nil }

// Terminate ends all.
func (c *ClusterV3) Terminate(t testing.TB) {
	for _, client := range c.clients {
		if client != nil {
			client.Close()
		}
	}
	for _, m := range c.Members {
		m.Stop(t)
	}
	os.RemoveAll(c.server.folder)
}

type grpcAPI struct {
	Cluster     pb.ClusterClient
	KV          pb.KVClient
	Lease       pb.LeaseClient
	Watch       pb.WatchClient
	Maintenance pb.MaintenanceClient
	Auth        pb.AuthClient
	Lock        lockpb.LockClient
	Election    epb.ElectionClient
}
