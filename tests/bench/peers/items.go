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

// A channel of that many places is Go's semaphore.
func semaphoreUncontended() float64 {
	one := make(chan struct{}, 1)
	return perOperation(1_000_000, func(int) {
		one <- struct{}{}
		<-one
	})
}

func semaphoreContended() float64 {
	const tasks, times = 100, 1000
	permits := make(chan struct{}, 10)
	var all sync.WaitGroup
	all.Add(tasks)
	begin := time.Now()
	for t := 0; t < tasks; t++ {
		go func() {
			for i := 0; i < times; i++ {
				permits <- struct{}{}
				runtime.Gosched()
				<-permits
			}
			all.Done()
		}()
	}
	all.Wait()
	return time.Since(begin).Seconds() / (tasks * times)
}

func queue(capacity int) float64 {
	const n = 500_000
	q := make(chan int, capacity)
	sum := make(chan int)
	begin := time.Now()
	go func() {
		s := 0
		for v := range q {
			s += v
		}
		sum <- s
	}()
	for i := 0; i < n; i++ {
		q <- i
	}
	close(q)
	<-sum
	return time.Since(begin).Seconds() / n
}

// Goroutines belong to no thread: another one, which may have the second processor, starts each of them, and gets their
// ends.
func acrossThreads() float64 {
	runtime.GOMAXPROCS(2)
	const n = 100_000
	there, ends := make(chan int, n), make(chan int, n)
	go func() {
		for i := range there {
			go func(i int) { ends <- immediate(i) }(i)
		}
	}()
	begin := time.Now()
	for i := 0; i < n; i++ {
		there <- i
	}
	for i := 0; i < n; i++ {
		<-ends
	}
	return time.Since(begin).Seconds() / n
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
		"semaphore_uncontended":   semaphoreUncontended,
		"semaphore_contended":     semaphoreContended,
		"queue/1":                 func() float64 { return queue(1) },
		"queue/64":                func() float64 { return queue(64) },
		"across_threads":          acrossThreads,
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
