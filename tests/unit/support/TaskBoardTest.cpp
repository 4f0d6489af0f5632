#include "kernelforge/support/TaskBoard.h"

#include <gmock/gmock.h>
#include <vector>

using namespace kernelforge;
using testing::ElementsAre;
using testing::UnorderedElementsAreArray;

namespace {

TEST(TaskBoard, MembersOfASmallTeamTakeTheirOwnFirst) {
  TaskBoard board(3);
  EXPECT_TRUE(board.isEmpty());
  board.post(7);
  EXPECT_FALSE(board.isEmpty());
  std::vector<int> own;
  for (int member : {0, 1, 2, 1, 2, 0, 2}) // of 2, 2 and 3
    own.push_back(*board.take(member));
  EXPECT_THAT(own, ElementsAre(0, 2, 4, 3, 5, 1, 6));
  EXPECT_TRUE(board.isEmpty());
  EXPECT_FALSE(board.take(1));
}

TEST(TaskBoard, EveryTaskIsTakenOnceWhoeverIsThere) {
  for (int members : {1, 2, 4, 16})
    for (int count : {2, 3, 63, 64, 65, 128, 383, TaskBoard::most}) {
      TaskBoard board(members);
      for (int repeat = 0; repeat < 2; ++repeat) {
        board.post(count);
        std::vector<int> taken, all;
        while (const auto task = board.take(members - 1)) // the others are away
          taken.push_back(*task);
        for (int task = 0; task < count; ++task)
          all.push_back(task);
        EXPECT_THAT(taken, UnorderedElementsAreArray(all)) << members << " members";
        EXPECT_TRUE(board.isEmpty());
      }
    }
}

} // namespace
