// The same work with Go's goroutines.
//
// Prints the time of one operation in seconds (memory_*: bytes), or null for an item that it does not have.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
)

func gather(n int, child func(int) int) float64 {
	rounds := max(1, 200_000/n)
	begin := time.Now()
	for r := 0; r < rounds; r++ {
		values := make([]int, n)
		var all sync.WaitGroup
		all.Add(n)
		for i := 0; i < n; i++ {
			go func(i int) {
				values[i] = child(i)
				all.Done()
			}(i)
		}
		all.Wait()
	}
	return time.Since(begin).Seconds() / float64(rounds*n)
}

func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}

func immediate(i int) int { return i }
func yielding(i int) int {
	runtime.Gosched()
	return i
}
func sleeps(i int) int {
	time.Sleep(10 * time.Millisecond)
	return i
}

func perOperation(n int, operation func(int)) float64 {
	begin := time.Now()
	for i := 0; i < n; i++ {
		operation(i)
	}
	return time.Since(begin).Seconds() / float64(n)
}

func oneChild(i int) {
	result := make(chan int)
	go func() { result <- i }()
	<-result
}

func memory(wait func()) float64 {
	const n = 100_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := 0; i < n; i++ {
		go wait()
	}
	for i := 0; i < 10; i++ {
		runtime.Gosched()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Sys-before.Sys) / n
}

func echo() float64 {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		connection, _ := listener.Accept()
		data := make([]byte, 1)
		for {
			if _, err := connection.Read(data); err != nil {
				return
			}
			connection.Write(data)
		}
	}()
	connection, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		panic(err)
	}
	data := []byte("x")
	return perOperation(20_000, func(int) {
		connection.Write(data)
		connection.Read(data)
	})
}

func main() {
	runtime.GOMAXPROCS(1) // one loop, as the others
	items := map[string]func() float64{
		"gather_immediate/10":     func() float64 { return gather(10, immediate) },
		"gather_immediate/1000":   func() float64 { return gather(1_000, immediate) },
		"gather_immediate/100000": func() float64 { return gather(100_000, immediate) },
		"gather_yielding/10":      func() float64 { return gather(10, yielding) },
		"gather_yielding/1000":    func() float64 { return gather(1_000, yielding) },
		"gather_yielding/100000":  func() float64 { return gather(100_000, yielding) },
		"yield":                   func() float64 { return perOperation(1_000_000, func(int) { runtime.Gosched() }) },
		"spawn_and_join":          func() float64 { return perOperation(200_000, oneChild) },
		"memory_event":            func() float64 { never := make(chan int); return memory(func() { <-never }) },
		"memory_timer":            func() float64 { return memory(func() { time.Sleep(time.Hour) }) },
		"sleeps/100000":           func() float64 { return gather(100_000, sleeps) },
		"echo":                    echo,
	}
	if item, known := items[os.Args[1]]; known {
		fmt.Println(item())
	} else {
		fmt.Println("null")
	}
}
