// What a worker does with the candidates that it is given, seen by the candidates themselves.
#include "TunerFixture.h"

#include "kernelforge/backend/ProgramJson.h"

#include <fmt/format.h>

using namespace kernelforge;

namespace {

class TuneWorker : public TunerFixture {
protected:
  /// A program that leaves its number in the result, counts there how often another was the last to
  /// do so, and crashes where that was more than `most` times.
  std::shared_ptr<const Program> counting(int number, int most) {
    return withKernel(problem->compile(problem->space().analytic).value(),
                      fmt::format(R"(
func.func @added(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, %task: i64, %s: !llvm.ptr) {{
  %p2 = llvm.getelementptr %args[2] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
  %y = llvm.load %p2 : !llvm.ptr -> !llvm.ptr
  %at = llvm.getelementptr %y[1] : (!llvm.ptr) -> !llvm.ptr, i32
  %number = arith.constant {} : i32
  %most = arith.constant {} : i32
  %one = arith.constant 1 : i32
  %last = llvm.load %y : !llvm.ptr -> i32
  %count = llvm.load %at : !llvm.ptr -> i32
  %same = arith.cmpi eq, %last, %number : i32
  cf.cond_br %same, ^done, ^other
^other:
  %more = arith.addi %count, %one : i32
  llvm.store %number, %y : i32, !llvm.ptr
  llvm.store %more, %at : i32, !llvm.ptr
  %many = arith.cmpi sgt, %more, %most : i32
  cf.cond_br %many, ^crash, ^done
^crash:
  %eight = arith.constant 8 : i64
  %nowhere = llvm.inttoptr %eight : i64 to !llvm.ptr
  llvm.store volatile %one, %nowhere : i32, !llvm.ptr
  return
^done:
  return
}}
)",
                                  number, most),
                      /*alone=*/true);
  }

  /// How timing two candidates in turns ends.
  WorkerAnswer timed(int rounds, int mostChanges) {
    const WorkerProblem shared = std::move(WorkerProblem::create(*problem).value());
    WorkerProcess worker(shared, options.worker);
    const Status started = worker.start();
    EXPECT_TRUE(started) << started.error().line();
    for (int slot : {0, 1}) {
      std::string code;
      Json command = programJson(*counting(slot, mostChanges), code);
      command["command"] = "load";
      command["slot"] = slot;
      const WorkerAnswer answer = worker.call(command, 60, code);
      EXPECT_EQ(answer.outcome, WorkerOutcome::Answered) << answer.why;
    }
    return worker.call(
        {{"command", "time"}, {"slots", {0, 1}}, {"rounds", rounds}, {"sample_seconds", 1e-5}}, 60);
  }
};

TEST_F(TuneWorker, CandidatesTakeTurnsInAnOrderThatRotates) {
  make(5, 40, 64);
  // Memory begins as -1, and both are warmed up: two changes that make 1. Then one within each
  // round, and none between two: who was last in one is the first of the next. In the same order in
  // all rounds there would be another one between.
  constexpr int rounds = 12, changes = 1 + 1 + rounds;
  const WorkerAnswer answer = timed(rounds, changes);
  ASSERT_EQ(answer.outcome, WorkerOutcome::Answered) << answer.why;
  for (const Json &samples : answer.json["samples_ns"])
    EXPECT_EQ(samples.size(), static_cast<size_t>(rounds));
  // That many there are.
  EXPECT_NE(timed(rounds, changes - 1).outcome, WorkerOutcome::Answered);
}

} // namespace
