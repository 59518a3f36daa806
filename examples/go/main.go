// A consumer that goes on where it stopped, over lost connections and over restarts of its own. In this folder:
//
//	buf generate ../../proto
//	go run . localhost:9000 watch.position
//
// It handles an event first and then notes its position, so after a crash between the two it sees that event again: at least once. For exactly
// once, keep the position with the effect, in one transaction of your own database.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"math/rand/v2"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "trex/examples/go/gen/rh_trex/v1"
)

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

func main() {
	server, file := "localhost:9000", "watch.position"
	if len(os.Args) > 1 {
		server = os.Args[1]
	}
	if len(os.Args) > 2 {
		file = os.Args[2]
	}
	connection, err := grpc.NewClient(server,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// Without pings a peer that vanished is not noticed.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 10 * time.Second}))
	if err != nil {
		log.Fatal(err)
	}
	consumer := consumer{client: pb.NewDinosaurServiceClient(connection), file: file, pause: firstPause}
	if consumer.known, err = read(file); err != nil {
		log.Fatal(err)
	}
	log.Fatal(consumer.run(context.Background()))
}

// Revisions of one epoch mean nothing in another: keep both, send both.
type position struct {
	epoch    string
	revision uint64
}

type consumer struct {
	client pb.DinosaurServiceClient
	file   string
	// nil: begin with what is there.
	known *position
	pause time.Duration
}

// Until trying again does not help.
func (c *consumer) run(ctx context.Context) error {
	for {
		err := c.watch(ctx)
		switch status.Code(err) {
		case codes.InvalidArgument, codes.NotFound, codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated:
			return err
		case codes.OutOfRange:
			// Compacted, or another history: nobody can say what was missed.
			c.known = nil
		}
		wait := max(retryAfter(err), time.Duration(float64(c.pause)*(0.5+rand.Float64()/2)))
		c.pause = min(2*c.pause, longestPause)
		log.Printf("%v; again in %v", err, wait.Round(time.Millisecond))
		time.Sleep(wait)
	}
}

// One stream, to its end. It always ends with an error: a hub never ends a watch with OK.
func (c *consumer) watch(ctx context.Context) error {
	request := &pb.WatchDinosaursRequest{
		// However slow this consumer is, it misses nothing that is retained.
		Backpressure:     pb.BackpressurePolicy_BACKPRESSURE_POLICY_CATCH_UP,
		BookmarkInterval: durationpb.New(30 * time.Second),
	}
	if c.known != nil {
		request.AfterRevision, request.Epoch = &c.known.revision, c.known.epoch
	} else {
		request.SendInitialState = true
	}
	stream, err := c.client.WatchDinosaurs(ctx, request)
	if err != nil {
		return err
	}
	header, err := stream.Header()
	if err != nil {
		return err
	}
	var epoch string
	// A refusal has none: the first message is its status.
	if values := header.Get("hub-epoch"); len(values) > 0 {
		epoch, c.pause = values[0], firstPause
		log.Printf("watching after revision %v", header.Get("hub-revision")[0])
		if c.known == nil {
			log.Print("what was known is void; the table as it is:")
		}
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return err
		}
		// With policy DROP only, on an event or on a bookmark.
		if event.DroppedBefore > 0 {
			log.Printf("%v events were dropped before this", event.DroppedBefore)
		}
		if event.Type != pb.EventType_EVENT_TYPE_BOOKMARK {
			handle(event)
		}
		// A row of the state is no position: that is complete at its bookmark.
		if event.Type != pb.EventType_EVENT_TYPE_SNAPSHOT {
			c.known = &position{epoch, event.Revision}
			if err := c.known.write(c.file); err != nil {
				log.Fatal(err)
			}
		}
	}
}

func handle(event *pb.DinosaurWatchEvent) {
	// There is no dinosaur on DELETED: the getters give an empty species.
	fmt.Println(event.Revision, event.Type, event.ResourceId, event.GetDinosaur().GetSpecies())
}

// How long the hub asks to be left alone.
func retryAfter(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.RetryDelay.AsDuration()
		}
	}
	return 0
}

func read(file string) (*position, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var p position
	if _, err := fmt.Sscanf(string(text), "%s %d", &p.epoch, &p.revision); err != nil {
		return nil, fmt.Errorf("%s: a position is an epoch and a revision: %w", file, err)
	}
	return &p, nil
}

// Renamed into place, so that a crash leaves the old position or the new one.
func (p position) write(file string) error {
	fresh := file + ".new"
	if err := os.WriteFile(fresh, fmt.Appendf(nil, "%s %d\n", p.epoch, p.revision), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, file)
}
