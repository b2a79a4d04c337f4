// Command testapp is the one program in the test cluster's own images: an application to route to,
// and the process that holds a pod's namespaces.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `testapp: an application for tests
  serve    answer every request on port 8080 (PORT) with what was received
  pause    wait for SIGTERM`

func main() {
	verb := ""
	if len(os.Args) == 2 {
		verb = os.Args[1]
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	var err error
	switch verb {
	case "serve":
		err = serve(end)
	case "pause":
		<-end
	default:
		err = errors.New(usage)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve answers until SIGTERM and for GRACE (none by default) after it, because a Service goes on
// sending for a moment to a pod that ends.
func serve(end <-chan os.Signal) error {
	grace, err := time.ParseDuration(setting("GRACE", "0s"))
	if err != nil {
		return fmt.Errorf("GRACE is no duration: %w", err)
	}
	server := &http.Server{Addr: ":" + setting("PORT", "8080"), Handler: http.HandlerFunc(answer)}
	ended := make(chan error, 1)
	go func() {
		<-end
		time.Sleep(grace)
		ended <- server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return <-ended
}

// answer says which pod answers, from whom the request came and how it arrived, a line for each;
// `?wait=2s` answers that much later, or not at all if the client leaves.
func answer(writer http.ResponseWriter, request *http.Request) {
	if wait, err := time.ParseDuration(request.URL.Query().Get("wait")); err == nil {
		select {
		case <-time.After(wait):
		case <-request.Context().Done():
			return
		}
	}
	pod, _ := os.Hostname()
	fmt.Fprintf(writer, "pod: %s\nversion: %s\npeer: %s\n", pod, setting("VERSION", "1"), request.RemoteAddr)
	fmt.Fprintf(writer, "%s %s %s\nHost: %s\n", request.Method, request.URL, request.Proto, request.Host)
	request.Header.Write(writer)
}

func setting(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}
