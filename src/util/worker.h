// A thread with a GMainContext of its own. Closures posted from any thread run on it in order.
#pragma once

#include <glib.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace cfr {

class Worker {
 public:
  using Task = std::function<void()>;

  explicit Worker(const char* thread_name);
  // Quits and joins. Not from the worker itself.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Any thread. After quit() the closure is dropped (destroyed on the calling thread).
  void post(Task task);
  // Any thread but the worker: runs the task there and returns when it is done. Tasks on the
  // worker never block, so this is short. Returns false when the worker has quit.
  bool call(const Task& task);
  // Any thread: ends the loop after the task that is running; pending tasks are dropped.
  void quit();
  // Any thread but the worker: waits until the loop has ended.
  void join();

  bool is_current() const;
  GMainContext* context() const { return context_; }

 private:
  void run(const char* thread_name);
  void drain();

  GMainContext* context_;
  std::mutex mutex_;        // guards the next three
  std::deque<Task> queue_;  // not yet run, oldest first
  bool scheduled_ = false;  // a source that will drain the queue is attached
  bool accepting_ = true;
  std::thread thread_;
};

// A one-shot timer on a worker. Bound to the worker's thread; destroying it cancels it.
class Timer {
 public:
  Timer() = default;
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Cancels what was armed before and runs `task` on the worker after delay_ms milliseconds.
  void start(Worker& worker, unsigned delay_ms, Worker::Task task);
  void cancel();
  bool armed() const { return source_ != nullptr; }

 private:
  struct Shot;
  GSource* source_ = nullptr;
};

}  // namespace cfr
